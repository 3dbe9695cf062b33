// `pm2 start ecosystem.config.cjs` – see docs/install.md. pm2 watches the process; Holdfast watches its engine host.

module.exports = {
  apps: [
    {
      name: "holdfast",
      script: "/opt/holdfast/bin/holdfast",
      args: "serve",
      // It is no JavaScript: pm2 would hand it to Node.
      interpreter: "none",
      // holdfast.toml is read from here.
      cwd: "/etc/holdfast",
      // One process. Two on the same SQLite refuse to start; several on one PostgreSQL are docs/cluster.md.
      exec_mode: "fork",
      instances: 1,
      // SIGTERM, and the time for an orderly stop: a second or two, ten at most. pm2's own 1.6 s would cut it short.
      kill_timeout: 15000,
      // pm2 sends SIGINT unless it is told otherwise with PM2_KILL_SIGNAL; Holdfast takes both alike.
      // Exit code 2 is a setting that can't be used: a restart does not mend it.
      stop_exit_codes: [0, 2],
      exp_backoff_restart_delay: 2000,
      min_uptime: 10000,
      env: {
        HOLDFAST_LOG_LEVEL: "info",
      },
      // Lines have their own time already.
      time: false,
      merge_logs: true,
    },
  ],
};
