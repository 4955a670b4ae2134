/*
 * Module hgauto.readline: reads chunks for the REPL (cli.md sections 7.1 and
 * 7.2), with GNU readline's callback interface when built in and standard
 * input is a terminal, else by a plain line reader with the same interface.
 *
 * The loop's callbacks only wake the task; readline runs inside the task, so
 * its callbacks may use Lua (by lua_pcall, never waiting).  SIGINT belongs to
 * the reader while it waits: it arrives through an eventfd that also ends a
 * bracketed paste, which readline reads in one blocking loop.
 *
 * One file although long: only here readline's headers are allowed, and its
 * callbacks share one static state.
 */
#include "host.h"
#include "lb.h"
#include "modules.h"
#include "sched.h"

#include "base/mem.h"
#include "base/term.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#ifdef HGA_READLINE
#include <readline/history.h>
#include <readline/readline.h>
#endif

#define READER_CLASS "hgauto.reader"
#define MAX_CHUNK ((size_t)16 * 1024 * 1024)
#define MAX_ROWS 12 /* of candidates */

enum {
	UV_CONTINUATION = 1,
	UV_COMPLETE = 2
};

struct reader {
	struct hga_op wait;
	struct hga_loop *loop;
	struct hga_watch in, interrupt;
	bool open, reading, editing; /* editing: readline has the terminal */
	bool tty, edit;              /* edit: readline is used */
	bool have_input, resized, continued;
	bool accepted, eof;
	char *line; /* accepted, from malloc */
	char *prompt;
	struct sigaction old_int;
	struct hga_buf raw, chunk; /* of the plain reader */
};

/* The handler's end of the eventfd; -1: nobody reads. */
static volatile sig_atomic_t interrupt_fd = -1;

/* ---- SIGINT ---- */

static void on_sigint(int signo)
{
	const uint64_t one = 1;
	int saved = errno, fd = interrupt_fd;

	(void)signo; /* only one is handled here */
	if (fd >= 0 && write(fd, &one, sizeof(one)) < 0) {
		/* The counter is full: it was seen anyway. */
	}
	errno = saved;
}

static bool take_interrupt(struct reader *x)
{
	uint64_t n;

	return read(x->interrupt.fd, &n, sizeof(n)) == (ssize_t)sizeof(n);
}

/* Told without taking it. */
static bool interrupt_waits(const struct reader *x)
{
	struct pollfd p = {.fd = x->interrupt.fd, .events = POLLIN};

	return poll(&p, 1, 0) == 1;
}

/* ---- waking the task ---- */

static void progress(struct reader *x)
{
	if (x->wait.state == HGA_OP_RUNNING && x->wait.progress != NULL)
		x->wait.progress(&x->wait);
}

static void on_input(struct hga_watch *w, int events)
{
	struct reader *x = w->data;

	(void)events; /* read tells */
	x->have_input = true;
	hga_watch_stop(x->loop, w); /* until the task has read */
	progress(x);
}

static void on_interrupt(struct hga_watch *w, int events)
{
	(void)events; /* the task empties it */
	progress(w->data);
}

static void on_signal(int signo, void *data)
{
	struct reader *x = data;

	if (signo == SIGWINCH)
		x->resized = true;
	else
		x->continued = true;
	progress(x);
}

/* ---- Lua functions of the caller ---- */

/* Asks whether the text wants more lines; errors count as no. */
static bool is_incomplete(lua_State *L, struct hga_str text)
{
	bool more = false;
	int top = lua_gettop(L);

	if (!lua_checkstack(L, 6))
		return false;
	if (lua_getiuservalue(L, 1, UV_CONTINUATION) == LUA_TFUNCTION) {
		lb_pushstr(L, text);
		if (lua_pcall(L, 1, 1, 0) == LUA_OK)
			more = lua_toboolean(L, -1);
	}
	lua_settop(L, top);
	return more;
}

/* ---- readline ---- */

#ifdef HGA_READLINE

/* Set while readline runs in a task: its callbacks have no argument. */
static struct {
	lua_State *L;
	struct reader *x;
	bool searching, interrupted;
	size_t end_at;
} now;

static void flush_out(void)
{
	if (fflush(rl_outstream) != 0)
		clearerr(rl_outstream); /* a lost terminal ends the input */
}

/* readline 8.2 inserts text without an end when a paste breaks off, so an
 * interrupted one gets its regular end. */
static int end_of_paste(void)
{
	static const char end[] = "\033[201~";

	now.interrupted = true;
	if (now.end_at < sizeof(end) - 1)
		return end[now.end_at++];
	return EOF;
}

static int get_char(FILE *f)
{
	struct pollfd p[2] = {{.fd = fileno(f), .events = POLLIN},
	                      {.fd = now.x->interrupt.fd, .events = POLLIN}};
	unsigned char c;
	ssize_t n;

	for (;;) {
		if (poll(p, 2, -1) < 0) {
			if (errno == EINTR)
				continue;
			return EOF;
		}
		if (p[1].revents & POLLIN)
			return end_of_paste();
		n = read(p[0].fd, &c, 1);
		if (n == 1)
			return c;
		if (n == 0 || (errno != EINTR && errno != EAGAIN))
			return EOF;
	}
}

static void on_line(char *line)
{
	struct reader *x = now.x;

	rl_callback_handler_remove();
	x->editing = false;
	x->accepted = line != NULL;
	x->eof = line == NULL;
	free(x->line);
	x->line = line;
}

/* Start of the line of the buffer that holds byte `at`. */
static int line_start(int at)
{
	while (at > 0 && rl_line_buffer[at - 1] != '\n')
		at--;
	return at;
}

static int line_end(int at)
{
	while (at < rl_end && rl_line_buffer[at] != '\n')
		at++;
	return at;
}

static bool opens_block(struct hga_str line)
{
	static const char *const words[] = {"then", "do", "else", "repeat",
	                                    "{",    "(",  ")",    NULL};
	int i;

	line = hga_str_trim(line);
	/* "function f(x)" opens a block, "f(x)" does not. */
	if (hga_str_ends(line, ")"))
		return hga_str_find(line, HGA_STR("function")) >= 0;
	for (i = 0; words[i] != NULL; i++)
		if (hga_str_ends(line, words[i]))
			return true;
	return false;
}

static void insert_newline(void)
{
	int from = line_start(rl_point), n = from;
	bool deeper = opens_block(
	    hga_strn(rl_line_buffer + from, (size_t)(rl_point - from)));
	char blanks[128] = "\n";
	size_t k = 1;

	while (n < rl_point && k < sizeof(blanks) - 3 &&
	       (rl_line_buffer[n] == ' ' || rl_line_buffer[n] == '\t'))
		blanks[k++] = rl_line_buffer[n++];
	if (deeper) {
		blanks[k++] = ' ';
		blanks[k++] = ' ';
	}
	blanks[k] = '\0';
	rl_insert_text(blanks);
}

/* An empty last line ends a block, whatever it lacks. */
static bool on_empty_last_line(void)
{
	int from = line_start(rl_point);

	return from > 0 && rl_point == rl_end &&
	       hga_str_trim(
	           hga_strn(rl_line_buffer + from, (size_t)(rl_end - from)))
	               .n == 0;
}

static int on_enter(int count, int key)
{
	struct hga_str text = hga_strn(rl_line_buffer, (size_t)rl_end);

	if (on_empty_last_line() || !is_incomplete(now.L, text))
		return rl_newline(count, key);
	rl_point = rl_end;
	insert_newline();
	return 0;
}

static int on_alt_enter(int count, int key)
{
	(void)count; /* one line each */
	(void)key;
	insert_newline();
	return 0;
}

/* Not into the middle of a character. */
static int whole_char(int at)
{
	while (at > 0 && at < rl_end &&
	       ((unsigned char)rl_line_buffer[at] & 0xc0) == 0x80)
		at--;
	return at;
}

static void to_column(int from, int column)
{
	int end = line_end(from);

	rl_point = whole_char(from + column < end ? from + column : end);
}

static int on_up(int count, int key);
static int on_down(int count, int key);

static bool arrow_before(void)
{
	return rl_last_func == on_up || rl_last_func == on_down;
}

/* Arrows in a row are one search, also with moves in a block between them:
 * readline goes on with a search only if it was the last command. */
static int search(rl_command_func_t *fn, int count, int key)
{
	if (now.searching && arrow_before())
		rl_last_func = fn;
	now.searching = true;
	return fn(count, key);
}

static int move(int from, int column)
{
	if (!arrow_before())
		now.searching = false;
	to_column(from, column);
	return 0;
}

static int on_up(int count, int key)
{
	int from = line_start(rl_point);

	if (from == 0)
		return search(rl_history_search_backward, count, key);
	return move(line_start(from - 1), rl_point - from);
}

static int on_down(int count, int key)
{
	int from = line_start(rl_point), end = line_end(rl_point);

	if (end == rl_end)
		return search(rl_history_search_forward, count, key);
	return move(end + 1, rl_point - from);
}

/* Beginning and end of the line of the block, not of the whole block. */
static int on_home(int count, int key)
{
	(void)count; /* once is all */
	(void)key;
	rl_point = line_start(rl_point);
	return 0;
}

static int on_end(int count, int key)
{
	(void)count; /* once is all */
	(void)key;
	rl_point = line_end(rl_point);
	return 0;
}

/* ---- completion ---- */

/* Length of what all have in common. */
static size_t common(char **list, size_t n)
{
	size_t i, len = strlen(list[0]), k;

	for (i = 1; i < n; i++) {
		for (k = 0; k < len && list[i][k] == list[0][k]; k++)
			;
		len = k;
	}
	return len;
}

static void free_list(char **list, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		free(list[i]);
	free(list);
}

/* readline's form: the common part first, NULL last; all from malloc.  Takes
 * the list over. */
static char **make_matches(char **list, size_t n, const char *word)
{
	char **m = calloc(n + 2, sizeof(*m));
	size_t len = common(list, n);

	if (m != NULL)
		m[0] =
		    len < strlen(word) ? strdup(word) : strndup(list[0], len);
	if (m == NULL || m[0] == NULL) {
		free(m);
		free_list(list, n);
		return NULL;
	}
	if (n == 1) { /* the common part is all of it */
		free_list(list, n);
		return m;
	}
	memcpy(m + 1, list, n * sizeof(*m));
	free(list);
	return m;
}

/* The candidates (list on top of the stack) from byte skip on. */
static char **copy_list(lua_State *L, size_t skip, size_t *n)
{
	size_t i, len, max = (size_t)lua_rawlen(L, -1);
	char **list;
	const char *s;

	if (max > 10000)
		max = 10000;
	list = calloc(max + 1, sizeof(*list));
	*n = 0;
	for (i = 1; list != NULL && i <= max; i++) {
		lua_rawgeti(L, -1, (lua_Integer)i);
		s = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &len)
		                                   : NULL;
		if (s != NULL && len >= skip)
			list[*n] = strdup(s + skip);
		if (list[*n] != NULL)
			(*n)++;
		lua_pop(L, 1);
	}
	return list;
}

/* Calls complete(text, cursor) -> first byte, candidates. */
static bool call_complete(lua_State *L, int *from)
{
	if (!lua_checkstack(L, 8) ||
	    lua_getiuservalue(L, 1, UV_COMPLETE) != LUA_TFUNCTION)
		return false;
	lua_pushlstring(L, rl_line_buffer, (size_t)rl_end);
	lua_pushinteger(L, rl_point);
	if (lua_pcall(L, 2, 2, 0) != LUA_OK || !lua_istable(L, -1) ||
	    !lua_isinteger(L, -2))
		return false;
	*from = (int)lua_tointeger(L, -2);
	return *from >= 0 && *from <= rl_point;
}

static char **attempt(const char *word, int start, int end)
{
	lua_State *L = now.L;
	int top = lua_gettop(L), from = 0;
	char **list = NULL, **m = NULL;
	size_t n = 0;

	(void)end;                        /* the cursor */
	rl_attempted_completion_over = 1; /* never file names */
	rl_completion_append_character = '\0';
	if (call_complete(L, &from) && from <= start)
		list = copy_list(L, (size_t)(start - from), &n);
	if (n > 0)
		m = make_matches(list, n, word);
	else
		free(list);
	lua_settop(L, top);
	return m;
}

/* In columns; readline's own lister asks and pages. */
static void show_matches(char **m, int n, int longest)
{
	int rows, width, per, i, shown = n;

	rl_get_screen_size(&rows, &width);
	per = width / (longest + 2);
	if (per < 1)
		per = 1;
	rows = rows / 2 < MAX_ROWS ? rows / 2 : MAX_ROWS;
	if (rows > 0 && shown > rows * per)
		shown = rows * per;
	fputc('\n', rl_outstream);
	for (i = 1; i <= shown; i++)
		fprintf(rl_outstream, "%-*s%s", longest + 2, m[i],
		        i % per == 0 || i == shown ? "\n" : "");
	if (shown < n)
		fprintf(rl_outstream, "... %d more\n", n - shown);
	rl_forced_update_display();
}

/* ---- set-up ---- */

static void bind_all(const char *seq, rl_command_func_t *fn)
{
	rl_bind_keyseq_in_map(seq, fn, emacs_standard_keymap);
	rl_bind_keyseq_in_map(seq, fn, vi_insertion_keymap);
	rl_bind_keyseq_in_map(seq, fn, vi_movement_keymap);
}

/* The user's inputrc wins over our arrows, not over Enter. */
static void bind_arrow(const char *seq, rl_command_func_t *fn,
                       rl_command_func_t *usual)
{
	rl_command_func_t *is = rl_function_of_keyseq(seq, NULL, NULL);

	if (is == NULL || is == usual)
		bind_all(seq, fn);
}

static void bind_moves(void)
{
	bind_arrow("\\e[A", on_up, rl_get_previous_history);
	bind_arrow("\\eOA", on_up, rl_get_previous_history);
	bind_arrow("\\e[B", on_down, rl_get_next_history);
	bind_arrow("\\eOB", on_down, rl_get_next_history);
	bind_arrow("\\C-a", on_home, rl_beg_of_line);
	bind_arrow("\\e[H", on_home, rl_beg_of_line);
	bind_arrow("\\eOH", on_home, rl_beg_of_line);
	bind_arrow("\\C-e", on_end, rl_end_of_line);
	bind_arrow("\\e[F", on_end, rl_end_of_line);
	bind_arrow("\\eOF", on_end, rl_end_of_line);
}

static void set_up_readline(void)
{
	static bool done;

	if (done)
		return;
	done = true;
	rl_readline_name = "hgauto";
	rl_catch_signals = 0;
	rl_catch_sigwinch = 0;
	rl_change_environment = 0;
	rl_completion_query_items = -1;
	rl_attempted_completion_function = attempt;
	rl_completion_display_matches_hook = show_matches;
	rl_completer_word_break_characters =
	    " \t\n\"\\'`@$><=;|&{(.:,[]})+-*/^%#~!?";
	rl_getc_function = get_char;
	rl_initialize();
	rl_variable_bind("enable-bracketed-paste", "on");
	using_history();
	bind_all("\r", on_enter);
	bind_all("\n", on_enter);
	bind_all("\\e\r", on_alt_enter);
	bind_all("\\e\n", on_alt_enter);
	bind_moves();
}

static void edit_begin(struct reader *x)
{
	now.x = x;
	now.searching = false;
	x->editing = true;
	rl_callback_handler_install(x->prompt, on_line);
}

static void edit_end(struct reader *x)
{
	if (!x->editing)
		return;
	x->editing = false;
	rl_callback_handler_remove();
	flush_out();
}

static void edit_char(lua_State *L, struct reader *x)
{
	now.L = L;
	now.x = x;
	now.interrupted = false;
	now.end_at = 0;
	rl_callback_read_char();
	flush_out();
	now.L = NULL;
	if (now.interrupted)
		x->eof = x->accepted = false;
}

/* In this order it is right also out of a search and inside a block. */
static void edit_interrupt(struct reader *x)
{
	if (x->editing) {
		rl_callback_sigcleanup();
		rl_free_line_state();
		rl_point = rl_end;
		rl_redisplay();
	}
	fputs("^C\n", rl_outstream);
	if (x->editing) {
		rl_replace_line("", 1);
		rl_reset_line_state();
		rl_on_new_line();
	}
	flush_out();
}

static void edit_signals(struct reader *x)
{
	if (x->continued) { /* the shell had the terminal */
		rl_prep_terminal(1);
		rl_forced_update_display();
	}
	if (x->resized)
		rl_resize_terminal();
	flush_out();
}

static void edit_print(lua_State *L, struct hga_str text)
{
	rl_clear_visible_line();
	flush_out();
	host_write(L, HGA_TERM_OUT, text);
	if (text.n == 0 || text.s[text.n - 1] != '\n')
		host_write(L, HGA_TERM_OUT, HGA_STR("\n"));
	rl_on_new_line();
	rl_redisplay();
	flush_out();
}

static void history_add(const char *text)
{
	add_history(text);
}

#else /* without readline: never called, x->edit is false */

static void set_up_readline(void)
{
}

static void edit_begin(struct reader *x)
{
	(void)x; /* see above */
}

static void edit_end(struct reader *x)
{
	(void)x;
}

static void edit_char(lua_State *L, struct reader *x)
{
	(void)L;
	(void)x;
}

static void edit_interrupt(struct reader *x)
{
	(void)x;
}

static void edit_signals(struct reader *x)
{
	(void)x;
}

static void edit_print(lua_State *L, struct hga_str text)
{
	(void)L;
	(void)text;
}

static void history_add(const char *text)
{
	(void)text;
}

#endif

/* ---- beginning and ending a read ---- */

static void set_prompt(lua_State *L, struct reader *x, const char *text)
{
	struct hga_err err;

	if (!x->tty || x->edit)
		return;
	host_write(L, HGA_TERM_OUT, hga_str(text));
	if (hga_term_flush(host_of(L)->term, HGA_TERM_OUT, &err) < 0)
		return; /* the reader of our output is gone; input tells */
}

/* C only: also called when the wait is cancelled. */
static void end_read(struct reader *x)
{
	if (!x->reading)
		return;
	x->reading = false;
	edit_end(x);
	hga_watch_stop(x->loop, &x->in);
	hga_watch_stop(x->loop, &x->interrupt);
	(void)sigaction(SIGINT, &x->old_int, NULL); /* valid: it was set */
	interrupt_fd = -1;
	if (x->edit && (hga_loop_signal(x->loop, SIGWINCH, NULL, NULL, NULL) |
	                hga_loop_signal(x->loop, SIGCONT, NULL, NULL, NULL)))
		x->resized = false; /* cannot fail for these two */
	hga_op_drop(&x->wait);
}

static void cancel(struct hga_op *op)
{
	end_read((struct reader *)op);
}

static int start_signals(struct reader *x, struct hga_err *err)
{
	struct sigaction sa = {.sa_flags = SA_RESTART};
	int r;

	sigemptyset(&sa.sa_mask);
	sa.sa_handler = on_sigint;
	interrupt_fd = x->interrupt.fd;
	(void)take_interrupt(x); /* one that came too late */
	if (sigaction(SIGINT, &sa, &x->old_int) < 0)
		return hga_fail(err, HGA_IO, errno, "Signal", "sigaction");
	if (!x->edit)
		return 0;
	r = hga_loop_signal(x->loop, SIGWINCH, on_signal, x, err);
	if (r == 0)
		r = hga_loop_signal(x->loop, SIGCONT, on_signal, x, err);
	return r;
}

static void begin_read(lua_State *L, struct reader *x)
{
	struct hga_err err;

	hga_op_begin(&x->wait, cancel);
	x->reading = true;
	x->accepted = x->eof = x->have_input = false;
	x->resized = x->continued = false;
	if (start_signals(x, &err) < 0 ||
	    hga_watch_start(x->loop, &x->interrupt, HGA_READ, &err) < 0) {
		end_read(x);
		(void)lb_raise(L, &err);
		return;
	}
	set_prompt(L, x, x->prompt);
	if (x->edit)
		edit_begin(x);
}

/* ---- the plain reader ---- */

static void raise_io(lua_State *L, struct reader *x, const char *what)
{
	struct hga_err err;

	(void)hga_fail(&err, HGA_IO, errno, "Input", "%s", what);
	end_read(x);
	(void)lb_raise(L, &err);
}

static void read_raw(lua_State *L, struct reader *x)
{
	struct hga_err err;
	ssize_t n;

	if (hga_buf_reserve(&x->raw, 65536, &err) < 0) {
		end_read(x);
		(void)lb_raise(L, &err);
	}
	n = read(STDIN_FILENO, x->raw.data + x->raw.len, 65536);
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n < 0 && errno != EIO) /* EIO: the terminal is gone */
		raise_io(L, x, "read standard input");
	if (n <= 0) {
		x->eof = true;
		return;
	}
	x->raw.len += (size_t)n;
	x->raw.data[x->raw.len] = '\0';
}

/* Moves a line to the chunk; false: there is none yet. */
static bool take_line(lua_State *L, struct reader *x, bool *empty)
{
	const char *p = hga_buf_text(&x->raw);
	const char *nl = memchr(p, '\n', x->raw.len);
	size_t n = nl != NULL ? (size_t)(nl - p) : x->raw.len;
	struct hga_err err;

	if (nl == NULL && (!x->eof || n == 0))
		return false;
	*empty = hga_str_trim(hga_strn(p, n)).n == 0;
	if ((x->chunk.len > 0 && hga_buf_addc(&x->chunk, '\n', &err) < 0) ||
	    hga_buf_add(&x->chunk, p, n, &err) < 0) {
		end_read(x);
		(void)lb_raise(L, &err);
	}
	hga_buf_consume(&x->raw, nl != NULL ? n + 1 : n);
	return true;
}

/* Whether a whole chunk, or the end, is there. */
static bool plain_ready(lua_State *L, struct reader *x)
{
	bool empty;

	while (take_line(L, x, &empty)) {
		if ((empty && x->tty) ||
		    !is_incomplete(L, hga_buf_str(&x->chunk))) {
			x->accepted = true;
			return true;
		}
		set_prompt(L, x, ">> ");
	}
	x->accepted = x->eof && x->chunk.len > 0;
	return x->eof;
}

/* ---- read ---- */

static int push_result(lua_State *L, struct reader *x)
{
	end_read(x);
	if (!x->accepted) {
		if (x->tty)
			host_write(L, HGA_TERM_OUT, HGA_STR("\n"));
		return 0;
	}
	if (x->edit) {
		lua_pushstring(L, x->line);
		free(x->line);
		x->line = NULL;
		return 1;
	}
	lua_pushlstring(L, hga_buf_text(&x->chunk), x->chunk.len);
	hga_buf_clear(&x->chunk);
	return 1;
}

static int interrupted(lua_State *L, struct reader *x)
{
	if (x->edit)
		edit_interrupt(x);
	else if (x->tty)
		host_write(L, HGA_TERM_OUT, HGA_STR("\n"));
	hga_buf_clear(&x->chunk);
	hga_buf_clear(&x->raw);
	end_read(x);
	lua_pushliteral(L, "");
	return 1;
}

/* Handles what happened; true: the read is over. */
static bool look(lua_State *L, struct reader *x)
{
	bool input = x->have_input && !interrupt_waits(x);

	x->have_input = false;
	if (x->edit) {
		if (x->resized || x->continued)
			edit_signals(x);
		x->resized = x->continued = false;
		if (input)
			edit_char(L, x);
		return x->accepted || x->eof;
	}
	if (input)
		read_raw(L, x);
	return plain_ready(L, x);
}

static int read_k(lua_State *L, int status, lua_KContext ctx)
{
	struct reader *x = lb_check(L, 1, READER_CLASS);
	struct hga_err err;
	bool over;

	(void)status; /* both ways look at the flags */
	if (ctx != 0)
		(void)sched_resumed(L, &x->wait);
	if (!x->open) {
		end_read(x);
		return lb_fail(L, HGA_IO, "Closed", "reader is closed");
	}
	over = look(L, x);
	if (take_interrupt(x))
		return interrupted(L, x);
	if (over)
		return push_result(L, x);
	if (hga_watch_start(x->loop, &x->in, HGA_READ, &err) < 0) {
		end_read(x);
		return lb_raise(L, &err);
	}
	return sched_await(L, &x->wait, "input", read_k);
}

/// Waits for a chunk.
// @return string|nil the text, "" after Ctrl-C, nil at the end (Ctrl-D)
// @raise io, cancelled
// @waits
static int l_read(lua_State *L)
{
	struct reader *x = lb_check(L, 1, READER_CLASS);

	if (!x->open)
		return lb_fail(L, HGA_IO, "Closed", "reader is closed");
	if (x->reading)
		return lb_fail(L, HGA_USAGE, "Busy", "another task reads");
	sched_check_wait(L, "input");
	lua_settop(L, 1);
	begin_read(L, x);
	return read_k(L, LUA_OK, 0);
}

/* ---- other methods ---- */

/// Adds a chunk to the history that Up and Ctrl-R search.
// @param text string
static int l_add_history(lua_State *L)
{
	struct reader *x = lb_check(L, 1, READER_CLASS);

	luaL_checkstring(L, 2);
	if (x->edit)
		history_add(lua_tostring(L, 2));
	return 0;
}

/// Prints lines above what is being edited.
// @param text string
static int l_print(lua_State *L)
{
	struct reader *x = lb_check(L, 1, READER_CLASS);
	struct hga_str text = lb_checkstr(L, 2);

	if (x->editing) {
		edit_print(L, text);
		return 0;
	}
	host_write(L, HGA_TERM_OUT, text);
	if (text.n == 0 || text.s[text.n - 1] != '\n')
		host_write(L, HGA_TERM_OUT, HGA_STR("\n"));
	return 0;
}

/// Gives the terminal back; repeatable.
static int l_close(lua_State *L)
{
	struct reader *x = lb_test(L, 1, READER_CLASS);

	if (x == NULL || x->loop == NULL)
		return 0;
	x->open = false;
	if (x->reading) {
		progress(x); /* its task sees that it is closed */
		end_read(x);
	}
	if (x->interrupt.fd > 0)
		close(x->interrupt.fd);
	x->interrupt.fd = 0;
	free(x->line);
	x->line = NULL;
	hga_free(x->prompt);
	x->prompt = NULL;
	hga_buf_release(&x->raw);
	hga_buf_release(&x->chunk);
	x->loop = NULL;
	return 0;
}

/* ---- open ---- */

struct opts {
	const char *prompt;
	int continuation, complete;
	bool edit;
};

static void keep_function(lua_State *L, const char *name, int uv)
{
	lua_getfield(L, 1, name);
	lua_setiuservalue(L, 2, uv);
}

static void open_reader(lua_State *L, struct reader *x, const struct opts *o)
{
	x->loop = host_loop(L);
	hga_buf_init(&x->raw, MAX_CHUNK);
	hga_buf_init(&x->chunk, MAX_CHUNK);
	x->prompt = hga_strdup(o->prompt);
	x->in.fd = STDIN_FILENO;
	x->in.fn = on_input;
	x->interrupt.fn = on_interrupt;
	x->in.data = x->interrupt.data = x;
	x->interrupt.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (x->interrupt.fd < 0 || x->prompt == NULL)
		(void)lb_fail(L, HGA_IO, "Input", "cannot open the reader");
	x->tty = isatty(STDIN_FILENO) != 0;
	x->open = true;
}

/// Opens the reader of standard input.
// @param opts.prompt string default "> "; shown on a terminal
// @param opts.continuation function fn(text) -> boolean: wants more lines
// @param opts.complete function fn(text, cursor) -> first byte (from 0) that
// the candidates replace, list of candidates
// @param opts.edit boolean false: no readline even on a terminal
// @return reader
static int l_open(lua_State *L)
{
	static const struct lb_opt defs[] = {
	    {"prompt", LB_CSTR, offsetof(struct opts, prompt)},
	    {"continuation", LB_FUNC, offsetof(struct opts, continuation)},
	    {"complete", LB_FUNC, offsetof(struct opts, complete)},
	    {"edit", LB_BOOL, offsetof(struct opts, edit)},
	    {NULL, LB_ANY, 0}};
	struct opts o = {.prompt = "> ", .edit = true};
	struct reader *x;

	sched_check_effect(L, "readline.open");
	lua_settop(L, 1);
	lb_opts(L, 1, "readline.open", defs, &o);
	x = lb_newobj(L, sizeof(*x), 2, READER_CLASS);
	open_reader(L, x, &o);
	if (o.continuation)
		keep_function(L, "continuation", UV_CONTINUATION);
	if (o.complete)
		keep_function(L, "complete", UV_COMPLETE);
#ifdef HGA_READLINE
	x->edit = o.edit && x->tty && isatty(STDOUT_FILENO);
#endif
	if (x->edit)
		set_up_readline();
	return 1;
}

static const luaL_Reg methods[] = {{"read", l_read},
                                   {"add_history", l_add_history},
                                   {"print", l_print},
                                   {"close", l_close},
                                   {NULL, NULL}};
static const luaL_Reg functions[] = {{"open", l_open}, {NULL, NULL}};

int luaopen_hgauto_readline(lua_State *L)
{
	lb_newclass(L, READER_CLASS, methods, NULL);
	luaL_newlib(L, functions);
#ifdef HGA_READLINE
	lua_pushboolean(L, true);
#else
	lua_pushboolean(L, false);
#endif
	lua_setfield(L, -2, "available");
	return 1;
}
