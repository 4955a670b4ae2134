-- Settings of luacheck for scripts and Lua tests.
std = "lua54"
max_line_length = 100
-- Names that start with _ are unused on purpose (`local _d <close> = …`).
ignore = { "211/_.*", "212/_.*", "213/_.*" }
files["tests/"] = { ignore = { "211/_.*", "212", "213/_.*", "431", "432" } }
