/* Messages between daemon, keeper and pid 1: heads, commands, rules, words. */
#include "box/guest/spec.c"
#include "box/guest/util.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct exec_args exec;
	static struct rules rules;
	struct hga_box_in in;
	struct hga_box_rd r;
	struct initctl ctl;

	if (n > HGA_BOX_MSG || !hga_box_parse(data, n, &in))
		return 0;
	r = in.body;
	if (exec_parse(&r, &exec) &&
	    (exec.argv[exec.argc] != NULL || exec.env[exec.envc] != NULL))
		__builtin_trap();
	r = in.body;
	if (rules_parse(&r, &rules))
		(void)rules_admit(&rules, 22, in.id);
	r = in.body;
	(void)hga_box_rd_text(&r);
	(void)hga_box_rd_u32(&r);
	(void)hga_box_rd_text(&r);
	if (initctl_parse((const char *)in.body.p, in.body.n, &ctl) &&
	    ctl.seconds > 999999999)
		__builtin_trap();
	return 0;
}
