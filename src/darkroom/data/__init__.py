"""How arrays reach the device: the cache on disk, batches, and what augmentation does to them."""
