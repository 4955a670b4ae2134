--- What this process works with: state directory, run, ledger, region, mode.
--
-- One table, filled by the command line (hg.cli.env) before a task or the
-- REPL starts: state (hgauto.state), run, ledger, local_cloud (endpoint table
-- or nil), region, profile, endpoint_url, quiet, verbose.
return {}
