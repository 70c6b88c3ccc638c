"""The doctor's checks: each file on its own (`examine`), then the files together (`twins`, `balance`)."""
