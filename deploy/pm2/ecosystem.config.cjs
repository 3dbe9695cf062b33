// `pm2 start ecosystem.config.cjs` – see docs/install.md. pm2 monitors the process; Holdfast monitors its engine hosts.

module.exports = {
  apps: [
    {
      name: "holdfast",
      script: "/opt/holdfast/bin/holdfast",
      args: "serve",
      // Without this, pm2 would run the program with Node.
      interpreter: "none",
      // holdfast.toml is read from here.
      cwd: "/etc/holdfast",
      // One process. A second one on the same SQLite database refuses to start; for several on one PostgreSQL, see
      // docs/cluster.md.
      exec_mode: "fork",
      instances: 1,
      // The time for a graceful stop: a second or two, ten at most. pm2's default of 1.6 s is too short.
      kill_timeout: 15000,
      // Exit code 2 means that a setting is invalid: a restart does not help.
      stop_exit_codes: [0, 2],
      exp_backoff_restart_delay: 2000,
      min_uptime: 10000,
      env: {
        HOLDFAST_LOG_LEVEL: "info",
      },
      // Log lines have timestamps already.
      time: false,
      merge_logs: true,
    },
  ],
};
