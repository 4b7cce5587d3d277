# sources of src/ctl/
