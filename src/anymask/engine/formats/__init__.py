"""Annotations as the files that other programs read: one writer per format, for page, releases and shell alike."""

from anymask.engine.formats.item import File, ImageFile, Item, Writer, project_items, stems
from anymask.engine.formats.making import (
    FORMATS,
    ExportCounts,
    FormatOptions,
    chunks,
    export,
    make_writer,
    put,
    whole_folder,
    write_items,
    zipped,
)

__all__ = [
    "FORMATS",
    "ExportCounts",
    "File",
    "FormatOptions",
    "ImageFile",
    "Item",
    "Writer",
    "chunks",
    "export",
    "make_writer",
    "project_items",
    "put",
    "stems",
    "whole_folder",
    "write_items",
    "zipped",
]
