"""Where pictures come from: folders, Parquet, archives of Kaggle."""
