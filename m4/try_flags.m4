# TRY_CFLAGS(VARIABLE, FLAGS)
# TRY_LDFLAGS(VARIABLE, FLAGS)
# Appends each of FLAGS that the compiler and the linker take without a
# warning to VARIABLE.
AC_DEFUN([TRY_FLAGS_], [
for flag in $3; do
	AC_MSG_CHECKING([whether $CC takes $flag])
	try_save_CFLAGS=$CFLAGS
	try_save_LDFLAGS=$LDFLAGS
	$1="$$1 $flag"
	CFLAGS="$CFLAGS -Werror"
	AC_LINK_IFELSE([AC_LANG_PROGRAM([#include <stdio.h>],
		[puts("");])],
		[try_ok=yes], [try_ok=no])
	CFLAGS=$try_save_CFLAGS
	LDFLAGS=$try_save_LDFLAGS
	AC_MSG_RESULT([$try_ok])
	AS_IF([test "$try_ok" = yes], [$2="$$2 $flag"])
done
])
AC_DEFUN([TRY_CFLAGS], [TRY_FLAGS_([CFLAGS], [$1], [$2])])
AC_DEFUN([TRY_LDFLAGS], [TRY_FLAGS_([LDFLAGS], [$1], [$2])])
