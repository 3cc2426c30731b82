"""bikeflow: one asyncio service that turns a bike-share feed into an analytics database."""

__version__ = "0.1.0"
