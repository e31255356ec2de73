"""Folders of public data sets, and of one's own, as entries of a manifest: one small file per layout."""
