"""Events folder: the feedback of a service, as Parquet files by date and hour."""
