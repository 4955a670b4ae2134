/*
 * main for fuzz targets built without libFuzzer: replays the seeds of
 * tests/fuzz/seeds/NAME (NAME = the program's) and prints TAP.
 */
#include "unit/tap.h"

#include <dirent.h>
#include <libgen.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool replay(const char *path)
{
	FILE *f = fopen(path, "rb");
	uint8_t *data;
	size_t n;

	if (f == NULL)
		return false;
	data = malloc(1 << 20);
	if (data == NULL) {
		(void)fclose(f);
		return false;
	}
	n = fread(data, 1, 1 << 20, f);
	(void)fclose(f);
	/* An exact copy, so that a read past the end is seen by ASan. */
	uint8_t *exact = malloc(n ? n : 1);
	if (exact != NULL) {
		memcpy(exact, data, n);
		(void)LLVMFuzzerTestOneInput(exact, n);
		free(exact);
	}
	free(data);
	return exact != NULL;
}

int main(int argc, char **argv)
{
	char dir[512];
	DIR *d;
	struct dirent *e;
	int n = 0;

	(void)snprintf(dir, sizeof(dir), "tests/fuzz/seeds/%s",
	               basename(argv[0]));
	if (argc > 1)
		(void)snprintf(dir, sizeof(dir), "%s", argv[1]);
	d = opendir(dir);
	if (d == NULL) {
		ok(false, "seeds in %s", dir);
		return done();
	}
	while ((e = readdir(d)) != NULL) {
		char path[1024];

		if (e->d_name[0] == '.')
			continue;
		(void)snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		if (!replay(path))
			ok(false, "replays %s", path);
		n++;
	}
	(void)closedir(d);
	ok(n > 0, "replays %d seeds", n);
	return done();
}
