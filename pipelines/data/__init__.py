"""Readers: each turns a layout that people really have into records with a label set."""
