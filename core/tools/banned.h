/*
 * Functions that must not be used in this project: each has a safe
 * counterpart (base/buf.h, base/str.h, base/time.h, net/proc.h, base/fs.h).
 * Included before every file of ours; the system headers that declare them
 * come first so that their own declarations stay legal.  Function-like
 * macros: members and parameters of these names stay possible.
 */
#ifndef HGA_BANNED_H
#define HGA_BANNED_H

#include <alloca.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define HGA_BANNED(f) this_function_is_banned_##f

#undef strcpy
#define strcpy(...) HGA_BANNED(strcpy)
#undef strcat
#define strcat(...) HGA_BANNED(strcat)
#undef sprintf
#define sprintf(...) HGA_BANNED(sprintf)
#undef vsprintf
#define vsprintf(...) HGA_BANNED(vsprintf)
#undef strtok
#define strtok(...) HGA_BANNED(strtok)
#undef gets
#define gets(...) HGA_BANNED(gets)
#undef strncpy
#define strncpy(...) HGA_BANNED(strncpy)
#undef localtime
#define localtime(...) HGA_BANNED(localtime)
#undef gmtime
#define gmtime(...) HGA_BANNED(gmtime)
#undef asctime
#define asctime(...) HGA_BANNED(asctime)
#undef ctime
#define ctime(...) HGA_BANNED(ctime)
#undef atoi
#define atoi(...) HGA_BANNED(atoi)
#undef atol
#define atol(...) HGA_BANNED(atol)
#undef rand
#define rand(...) HGA_BANNED(rand)
#undef system
#define system(...) HGA_BANNED(system)
#undef popen
#define popen(...) HGA_BANNED(popen)
#undef tmpnam
#define tmpnam(...) HGA_BANNED(tmpnam)
#undef mktemp
#define mktemp(...) HGA_BANNED(mktemp)
#undef alloca
#define alloca(...) HGA_BANNED(alloca)

#endif
