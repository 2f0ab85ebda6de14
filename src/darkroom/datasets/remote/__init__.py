"""Images in object stores and on web servers: they become files on this machine, which are then read as any others."""
