# sources of src/prefetcher/
