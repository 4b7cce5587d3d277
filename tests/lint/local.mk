lint_tests += \
	tests/lint/headers.sh \
	tests/lint/layers.py \
	tests/lint/manual.py
EXTRA_DIST += \
	tests/lint/headers.sh \
	tests/lint/layers.py \
	tests/lint/manual.py \
	src/LAYERS
