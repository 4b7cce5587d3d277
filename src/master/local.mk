# sources of src/master/
