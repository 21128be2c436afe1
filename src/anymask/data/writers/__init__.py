"""Files that samples and masks are written to: COCO's JSON, SA-1B's pairs in tars."""
