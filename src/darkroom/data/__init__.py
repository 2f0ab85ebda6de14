"""The data path: where images come from, and how they reach the device."""
