"""The data audit: suspicious images, and what people decide about them."""
