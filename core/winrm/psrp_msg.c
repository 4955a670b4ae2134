/*
 * Messages a client sends ([MS-PSRP] 2.2.2): capability, pool, pipeline.
 */
#include "winrm/psrp.h"

#include "winrm/clixml.h"

#include <stdio.h>

#define LIST_TYPES                                                             \
	"System.Collections.Generic.List`1[["                                  \
	"System.Management.Automation.PSObject, "                              \
	"System.Management.Automation, "                                       \
	"Version=1.0.0.0, Culture=neutral, "                                   \
	"PublicKeyToken=31bf3856ad364e35]]\n"                                  \
	"System.Object"

static int finish(struct hga_clixml_w *w, struct hga_err *err)
{
	if (w->r < 0 && err != NULL)
		*err = w->err;
	hga_cw_release(w);
	return w->r;
}

int hga_psrp_capability(struct hga_buf *out, struct hga_str version,
                        struct hga_err *err)
{
	struct hga_clixml_w w;

	hga_cw_init(&w, out);
	hga_cw_open(&w, NULL);
	hga_cw_raw(&w, "<MS>");
	hga_cw_text(&w, "Version", "protocolversion", version);
	hga_cw_text(&w, "Version", "PSVersion", HGA_STR("2.0"));
	hga_cw_text(&w, "Version", "SerializationVersion", HGA_STR("1.1.0.1"));
	hga_cw_raw(&w, "</MS>");
	hga_cw_close(&w);
	return finish(&w, err);
}

static void host_info(struct hga_clixml_w *w, bool host)
{
	hga_cw_open(w, "HostInfo");
	hga_cw_raw(w, "<MS>");
	hga_cw_bool(w, "_isHostNull", !host);
	hga_cw_bool(w, "_isHostUINull", true);
	hga_cw_bool(w, "_isHostRawUINull", true);
	hga_cw_bool(w, "_useRunspaceHost", !host);
	hga_cw_raw(w, "</MS>");
	hga_cw_close(w);
}

int hga_psrp_init_pool(struct hga_buf *out, bool host, struct hga_val app,
                       struct hga_err *err)
{
	struct hga_clixml_w w;

	hga_cw_init(&w, out);
	hga_cw_open(&w, NULL);
	hga_cw_raw(&w, "<MS>");
	hga_cw_int(&w, "I32", "MinRunspaces", 1);
	hga_cw_int(&w, "I32", "MaxRunspaces", 1);
	hga_cw_enum(&w, "PSThreadOptions", "Runspaces.PSThreadOptions",
	            "Default", 0);
	hga_cw_enum(&w, "ApartmentState", "Runspaces.ApartmentState", "UNKNOWN",
	            2);
	host_info(&w, host);
	hga_cw_value(&w, "ApplicationArguments", app);
	hga_cw_raw(&w, "</MS>");
	hga_cw_close(&w);
	return finish(&w, err);
}

/* ---- pipelines ---- */

static void merge(struct hga_clixml_w *w, struct hga_val cmd, const char *name)
{
	static const char *const texts[] = {"None",        "Output",  "Error",
	                                    "Warning",     "Verbose", "Debug",
	                                    "Information", "All",     "Null"};
	int64_t v = hga_val_int(hga_val_get(cmd, name), 0);
	const char *text = v >= 0 && v < 9 ? texts[v] : "None";

	/* The one member that holds flags. */
	if (v == 3 && hga_str_eqc(hga_str(name), "MergePreviousResults"))
		text = "Output, Error";
	hga_cw_enum(w, name, "Runspaces.PipelineResultTypes", text, (int)v);
}

static void argument(struct hga_clixml_w *w, struct hga_val arg)
{
	struct hga_val name = hga_val_get(arg, "name");

	hga_cw_open(w, NULL);
	hga_cw_raw(w, "<MS>");
	if (hga_val_is(name, HGA_V_STR))
		hga_cw_text(w, "S", "N", hga_val_str(name));
	else
		hga_cw_nil(w, "N");
	hga_cw_value(w, "V", hga_val_get(arg, "value"));
	hga_cw_raw(w, "</MS>");
	hga_cw_close(w);
}

static void command(struct hga_clixml_w *w, struct hga_val cmd, int minor)
{
	struct hga_val local = hga_val_get(cmd, "use_local_scope");
	struct hga_vit it;

	hga_cw_open(w, NULL);
	hga_cw_raw(w, "<MS>");
	hga_cw_text(w, "S", "Cmd", hga_val_str(hga_val_get(cmd, "cmd")));
	hga_cw_bool(w, "IsScript",
	            hga_val_bool(hga_val_get(cmd, "is_script"), false));
	if (hga_val_is(local, HGA_V_BOOL))
		hga_cw_bool(w, "UseLocalScope", hga_val_bool(local, false));
	else
		hga_cw_nil(w, "UseLocalScope");
	merge(w, cmd, "MergeMyResult");
	merge(w, cmd, "MergeToResult");
	merge(w, cmd, "MergePreviousResults");
	hga_cw_open(w, "Args");
	hga_cw_types(w, LIST_TYPES);
	hga_cw_raw(w, "<LST>");
	for (it = hga_val_first(hga_val_get(cmd, "args")); hga_val_more(it);
	     it = hga_val_next(it))
		argument(w, hga_vit_val(it));
	hga_cw_raw(w, "</LST>");
	hga_cw_close(w);
	if (minor >= 2) {
		merge(w, cmd, "MergeError");
		merge(w, cmd, "MergeWarning");
		merge(w, cmd, "MergeVerbose");
		merge(w, cmd, "MergeDebug");
	}
	if (minor >= 3)
		merge(w, cmd, "MergeInformation");
	hga_cw_raw(w, "</MS>");
	hga_cw_close(w);
}

static void commands(struct hga_clixml_w *w, struct hga_val list, int minor)
{
	struct hga_vit it;

	hga_cw_open(w, "Cmds");
	hga_cw_types(w, LIST_TYPES);
	hga_cw_raw(w, "<LST>");
	for (it = hga_val_first(list); hga_val_more(it); it = hga_val_next(it))
		command(w, hga_vit_val(it), minor);
	hga_cw_raw(w, "</LST>");
	hga_cw_close(w);
}

/* Several statements: all of them in ExtraCmds, the first in Cmds again. */
static void statements(struct hga_clixml_w *w, struct hga_val list, int minor)
{
	struct hga_vit it;

	if (hga_val_count(list) < 2) {
		hga_cw_nil(w, "ExtraCmds");
	} else {
		hga_cw_open(w, "ExtraCmds");
		hga_cw_types(w, LIST_TYPES);
		hga_cw_raw(w, "<LST>");
		for (it = hga_val_first(list); hga_val_more(it);
		     it = hga_val_next(it)) {
			hga_cw_open(w, NULL);
			hga_cw_raw(w, "<MS>");
			commands(w, hga_vit_val(it), minor);
			hga_cw_raw(w, "</MS>");
			hga_cw_close(w);
		}
		hga_cw_raw(w, "</LST>");
		hga_cw_close(w);
	}
	commands(w, hga_val_at(list, 0), minor);
}

int hga_psrp_create_pipeline(struct hga_buf *out, struct hga_val spec,
                             struct hga_err *err)
{
	struct hga_val list = hga_val_get(spec, "statements");
	bool nested = hga_val_bool(hga_val_get(spec, "nested"), false);
	int64_t streams = hga_val_int(hga_val_get(spec, "streams"), 1);
	int64_t minor = hga_val_int(hga_val_get(spec, "minor"), 3);
	struct hga_clixml_w w;

	if (!hga_val_is(list, HGA_V_LIST) || hga_val_count(list) == 0)
		return hga_fail(err, HGA_USAGE, 0, "Pipeline",
		                "a pipeline needs a statement");
	hga_cw_init(&w, out);
	hga_cw_open(&w, NULL);
	hga_cw_raw(&w, "<MS>");
	hga_cw_bool(&w, "NoInput",
	            hga_val_bool(hga_val_get(spec, "no_input"), true));
	hga_cw_enum(&w, "ApartmentState", "Runspaces.ApartmentState", "UNKNOWN",
	            2);
	hga_cw_enum(&w, "RemoteStreamOptions", "Runspaces.RemoteStreamOptions",
	            streams == 15  ? "AddInvocationInfo"
	            : streams == 1 ? "AddInvocationInfoToErrorRecord"
	                           : "",
	            (int)streams);
	hga_cw_bool(&w, "AddToHistory",
	            hga_val_bool(hga_val_get(spec, "add_to_history"), false));
	host_info(&w, hga_val_bool(hga_val_get(spec, "host"), false));
	hga_cw_open(&w, "PowerShell");
	hga_cw_raw(&w, "<MS>");
	hga_cw_bool(&w, "IsNested", nested);
	statements(&w, list, (int)minor);
	hga_cw_nil(&w, "History");
	hga_cw_bool(&w, "RedirectShellErrorOutputPipe", false);
	hga_cw_raw(&w, "</MS>");
	hga_cw_close(&w);
	hga_cw_bool(&w, "IsNested", nested);
	hga_cw_raw(&w, "</MS>");
	hga_cw_close(&w);
	return finish(&w, err);
}
