# sources of src/worker/
