"""Find images that show the same picture: re-encoded, brighter, shifted, cropped or mirrored."""
