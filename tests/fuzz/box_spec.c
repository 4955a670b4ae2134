/* The specification of an instance, as pid 1 reads it. */
#include "box/guest/passwd.c"
#include "box/guest/spec.c"
#include "box/guest/util.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void use(struct hga_box_text t)
{
	static volatile char sink; /* every byte is read */

	for (size_t i = 0; i < t.n; i++)
		sink = (char)(sink ^ t.s[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct spec spec;
	struct fault fault;
	struct account account;
	struct grow out = {0};
	gid_t groups[4];

	if (spec_parse(data, n, &spec, &fault) == 0) {
		for (size_t i = 0; i < spec.n_files; i++) {
			use(spec.files[i].owner);
			use(spec.files[i].path);
			use(spec.files[i].data);
		}
		for (size_t i = 0; i < spec.n_users; i++)
			use(spec.users[i].groups);
		(void)rules_admit(&spec.rules, 22, spec.address);
	}
	/* the same bytes as an image's account files */
	struct hga_box_text t = {(const char *)data, n};
	(void)passwd_find(t, "admin", &account);
	(void)group_list(t, "admin", 1000, groups, 4);
	(void)account_free_id(t, t);
	group_join(t, "sudo", "admin", &out);
	grow_free(&out);
	return 0;
}
