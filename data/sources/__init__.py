"""Sources of clicks: files of disks and object stores, found by paths, URLs or patterns."""
