# sources of src/upstream/
