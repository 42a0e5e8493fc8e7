"""Where blocks lie: a port cut by power, its stores, and wrappers that are stores too."""
