# unit files
