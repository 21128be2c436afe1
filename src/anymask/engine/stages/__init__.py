"""The three stages: people with the model's help, people after the model, the model alone (SAM, sec. 4)."""

ASSISTED = "assisted"
PREFILL = "prefill"
SEMI_AUTOMATIC = "semi-automatic"
AUTOMATIC = "automatic"
VERIFY = "verify"

STAGES = (ASSISTED, SEMI_AUTOMATIC, AUTOMATIC)
"""The stages in their order; each is also the kind of its jobs. `PREFILL` is the machine's part of the second, `VERIFY`
the verifiers' of the second and the third.
"""
PEOPLES = (ASSISTED, SEMI_AUTOMATIC)
"""Stages in which people draw."""
FIXABLE_IOU = 0.5
"""A prefilled mask that overlaps an object less is rejected rather than fixed."""
