"""Images and masks from elsewhere into a project: all of it or none, and a second time nothing twice."""

from anymask.engine.imports.readers import FORMATS, FoundImage, FoundMask, Imported, read_data, read_source
from anymask.engine.imports.writing import import_found, placed

__all__ = ["FORMATS", "FoundImage", "FoundMask", "Imported", "import_found", "placed", "read_data", "read_source"]
