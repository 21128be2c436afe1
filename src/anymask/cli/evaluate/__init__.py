"""`anymask evaluate`: a protocol per verb."""
