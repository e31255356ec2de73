"""From a folder of DICOM files to NIfTI: scan, group, recognise, stack, write. Needs the extra `dicom`."""

from mrigmm.errors import InputError

try:
    import pydicom  # noqa: F401
except ModuleNotFoundError:
    raise InputError(
        "DICOM files cannot be read: pydicom is not installed", remedy='pip install "mrigmm[dicom]"'
    ) from None
