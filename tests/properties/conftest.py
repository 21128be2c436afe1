"""Property tests on machines of any speed: no deadline for a single example."""

from hypothesis import HealthCheck, settings

settings.register_profile("anymask", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("anymask")
