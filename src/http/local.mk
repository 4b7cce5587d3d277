# sources of src/http/
