"""The web page: drop in a photo, see what is where, count it, take it along. Speaks to the service over HTTP only.

streamlit run deployments/page.py [http://ADDRESS:8000]     MASKWORKS_API_KEY, where set, goes along as the bearer token
"""

from __future__ import annotations

import os
import re
import sys
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parent.parent
if str(ROOT) not in sys.path:  # Streamlit puts only this file's folder there
    sys.path.insert(0, str(ROOT))

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import streamlit as st  # noqa: E402
from starlette.formparsers import MultiPartParser  # noqa: E402

from deployments.client import Client, ServiceError  # noqa: E402
from deployments.page_parts.components import choose_photo, least_score, show_photo, things_of  # noqa: E402
from deployments.page_parts.downloads import offer_counts, offer_downloads  # noqa: E402
from deployments.page_parts.photos import Desk, Photo, Source, shrink, trouble_of  # noqa: E402
from models.image import ImageLimits  # noqa: E402

SERVICE = "http://127.0.0.1:8000"
PARTS = ROOT / "deployments/page_parts"
DRAWN = {"can", "box", "bottle", "apple", "lemon"}  # what the samples show
SAMPLES = {path.stem.replace("-", " ").capitalize(): path for path in sorted((PARTS / "samples").glob("*.jpg"))}
TYPES = ("jpg", "jpeg", "png", "webp", "gif", "bmp")
QUICK_S = 0.4
LOOK_EVERY_S = 0.15  # at photos that are under way
KNOCK_EVERY_S = 2  # at a service that is away
KNOCK_S = 5  # for it to say what it is
PATIENCE_S = 60  # for an answer
STYLE = """
<style>
.stMainBlockContainer { max-width: 84rem; padding-top: 2.25rem; padding-bottom: 4rem; }
.stMainBlockContainer h1 { padding: 0 0 .6rem; font-size: 2rem; line-height: 1.15; letter-spacing: -.02em; }
@media (max-width: 640px) {
  .stMainBlockContainer { padding: 1.25rem 1rem 3rem; }
  .st-key-samples { flex-wrap: nowrap; gap: .5rem; }
  .st-key-samples > * { flex: 1 1 0 !important; width: auto !important; min-width: 0 !important; }
  .st-key-samples button { padding: .25rem; }
}
</style>
"""


def main() -> None:
    """The page from top to bottom; run anew whenever something changed."""
    st.set_page_config("Maskworks", page_icon=str(PARTS / "icon.svg"), layout="wide")
    st.html(STYLE)
    MultiPartParser.spool_max_size = 2**40  # else an upload of over 1 MB passes through a file
    url = sys.argv[1] if len(sys.argv) > 1 else SERVICE
    with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
        with st.container(width="content", gap="xxsmall"):
            st.title("Maskworks", anchor=False)
            st.markdown("Drop in a photo and see what is where.")
        place_of_models = st.container(width="content", gap="xsmall")
    try:
        names = served_models(url)
        with place_of_models:
            name = st.selectbox("Model", names, width=280, label_visibility="collapsed") if len(names) > 1 else None
        model = describe(url, name)
    except ServiceError as error:
        knock(url, error)
        return
    with place_of_models:
        known = things_of(model)
        number = "1 class" if len(known) == 1 else f"{len(known)} classes"
        st.caption(f"Model **{plain(model['model_version'])}**, {number}", help=plain(", ".join(known)))
    desk = open_desk(url, name, model)
    desk.lay(given_photos(model))
    if desk.photos:
        show_results(desk, client_of(url, retry=True), model)


@st.cache_resource
def client_of(url: str, patience_s: float = PATIENCE_S, *, retry: bool = False) -> Client:
    """One for all visitors; it keeps no photo."""
    return Client(url, patience_s, os.environ.get("MASKWORKS_API_KEY"), retry=retry)


def served_models(url: str) -> list[str]:
    """The names of the models to choose from; asked once for each visit."""
    if "models" not in st.session_state:
        st.session_state.models = client_of(url, KNOCK_S).models()
    return st.session_state.models


def describe(url: str, name: str | None) -> dict:
    """The model's own words. They are kept until another version answers, and when the service goes away, so that results stay."""
    known_name, known = st.session_state.get("described", (None, None))
    is_known = known is not None and known_name == name
    desk = st.session_state.get("desk")
    if is_known and desk and desk.version in (None, known["model_version"]):
        return known
    try:
        known = client_of(url, KNOCK_S).model(name)
    except ServiceError:
        if not is_known:
            raise
    st.session_state.described = name, known
    return known


def knock(url: str, error: ServiceError) -> None:
    """Says that the service is away, and goes on by itself once it is there."""
    trouble = trouble_of(error)
    lines = [f"**{trouble.title}**", plain(trouble.detail)]
    if trouble.passes:
        lines.append("This page looks again every two seconds and goes on by itself.")
    elif error.status == 401:
        lines.append("Start this page with the key in `MASKWORKS_API_KEY`.")
    st.warning("\n\n".join(lines), icon=":material/cloud_off:")

    @st.fragment(run_every=KNOCK_EVERY_S)
    def look() -> None:
        if client_of(url, KNOCK_S).ready():
            st.rerun()

    if trouble.passes:
        look()


def open_desk(url: str, name: str | None, model: dict) -> Desk:
    """The visitor's desk; a new one where another model is to answer."""
    if st.session_state.get("desk_of") != (url, name):
        limits = ImageLimits(model["limits"]["max_body_bytes"], model["limits"]["max_pixels"])
        st.session_state.desk_of = (url, name)
        st.session_state.desk = Desk(client_of(url), name, limits)
    return st.session_state.desk


def given_photos(model: dict) -> list[Source]:
    """What the visitor gives: files, a picture of the camera, a sample."""
    ways = {"Upload": ":material/upload: Upload", "Camera": ":material/photo_camera: Camera", "Samples": ":material/shelves: Samples"}
    st.session_state.setdefault("way", "Upload")
    way = st.segmented_control("Where photos come from", ways, format_func=ways.get, required=True, label_visibility="collapsed", key="way")
    if way == "Camera":
        picture = st.camera_input("Take a photo", key="camera", width=480)
        return [Source(picture.file_id, "camera.jpg", picture.getvalue())] if picture else []
    if way == "Samples":
        name = st.session_state.get("sample")
        offer_samples(with_pictures=name is None)
        return [Source(name, SAMPLES[name].name, SAMPLES[name].read_bytes())] if name else []
    files = st.file_uploader(
        "Drop or choose photos, several at once if you like",
        TYPES,
        accept_multiple_files=True,
        key="files",
        max_upload_size=max(1, model["limits"]["max_body_bytes"] // 2**20),
    )
    if not files:
        warning = "" if DRAWN & {*things_of(model)} else ", though this model knows nothing on it"
        st.markdown(f"No photo at hand? Try a drawn shelf{warning}:")
        offer_samples(with_pictures=True)
    return [Source(file.file_id, file.name, file.getvalue()) for file in files]


def offer_samples(*, with_pictures: bool) -> None:
    """Shelves that `pipelines.data.scenes.draw_scene` drew, each with a button."""
    with st.container(horizontal=True, key="samples"):
        for name, path in SAMPLES.items():
            with st.container(width=220 if with_pictures else 150, gap="small"):
                if with_pictures:
                    st.image(path)
                st.button(name, on_click=st.session_state.update, args=({"sample": name, "way": "Samples"},), width="stretch")


def show_results(desk: Desk, patient: Client, model: dict) -> None:
    """All that is known of the photos, which are sent on meanwhile."""
    if desk.move_on():
        desk.wait(QUICK_S)  # most answers come within it, and are shown at once
        desk.move_on()
    if desk.under_way:
        st.fragment(watch, run_every=LOOK_EVERY_S)(desk)
    least = least_score(model)
    photo = choose_photo(desk.photos, partial(words_of, least=least)) if len(desk.photos) > 1 else next(iter(desk.photos.values()))
    if photo.trouble and not photo.trouble.passes:
        st.error(f"**{photo.trouble.title}:** {plain(photo.source.name)}\n\n{plain(photo.trouble.detail)}", icon=":material/error:")
        return
    if photo.preview is not None:
        show_photo(photo, model, None if photo.answer else "Looking", partial(fetch_confidence, photo, desk, patient))
    if photo.answer:
        st.caption(f"{plain(photo.source.name)} · answered in {photo.took_s:.2f} s by **{plain(photo.answer['model_version'])}**")
        st.subheader("Download", anchor=False)
        offer_counts([each for each in desk.photos.values() if each.answer], least)
        wishes = {"model": desk.model, "min_score": least or None, "name": photo.source.name}
        offer_downloads(photo.source, model, partial(patient.segment, photo.source.data, **wishes))
        st.caption(f"Files hold the objects that are at least {least:.0%} sure." if least else "Files hold all objects.")


def watch(desk: Desk) -> None:
    """How far it is, several times a second; the page is made anew when there is more to show."""
    if desk.move_on():
        st.rerun()
    total, left = len(desk.photos), desk.under_way
    troubled = next((photo for photo in left if photo.trouble), None)
    if troubled:
        st.warning(
            f"**{troubled.trouble.title}**, trying again in {troubled.wait_s} s. {plain(troubled.trouble.detail)}",
            icon=":material/hourglass:",
        )
    if total > 1:
        st.progress((total - len(left)) / total, f"{total - len(left)} of {total} photos done")
    elif not troubled:
        st.caption("Waiting for the answer")


def words_of(photo: Photo, least: float) -> str:
    """A photo's state in a few words."""
    if photo.answer:
        number = len(photo.objects(least))
        return "1 object" if number == 1 else f"{number or 'no'} objects"
    return photo.trouble.title if photo.trouble else "waiting"


def fetch_confidence(photo: Photo, desk: Desk, patient: Client) -> None:
    try:
        body = patient.segment(photo.source.data, "confidence", model=desk.model).body
    except ServiceError as error:
        st.toast(plain(str(error)), icon=":material/error:")
        return
    photo.confidence = shrink(cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_GRAYSCALE))


def plain(text: str) -> str:
    """`text` so that Markdown shows it as it is."""
    return re.sub(r"([\\`*_{}\[\]()<>#+\-.!|~$:])", r"\\\1", text)


main()
