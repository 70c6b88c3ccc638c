"""What `page.py` is made of: the photos of a visit (`photos.py`), what is shown of them (`views.py`, `viewer.*`, `strip.*`), drawn samples."""
