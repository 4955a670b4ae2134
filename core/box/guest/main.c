/*
 * hgauto-box: the program between a local cloud's daemon and an instance.
 * Embedded in hgauto and started by it only; parameters come by descriptors.
 */
#include "box/guest/guest.h"

#include <stdio.h>

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "run") == 0)
		return keeper_run();
	if (argc == 3 && strcmp(argv[1], "probe") == 0)
		return probe_run(argv[2]);
	if (argc >= 3 && strcmp(argv[1], "contain") == 0)
		return contain_run(argv + 2);
	say("hgauto-box: started by hgauto only");
	return 2;
}
