// The chart of one session's last 24 hours: round trips as a line, and a band below it that shows when the session was connected.
"use strict";

(() => {
  const container = document.getElementById("chart");
  const summary = document.getElementById("chart-summary");
  if (!container) return;
  const EVERY_MS = 15000;
  const HEIGHT = 190;
  const BAND = 7;
  let chart = null;
  let known = null;

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const tones = { connected: "--success", disconnected: "--critical", excluded: "--line-strong", unlinked: "--line-strong" };

  const drawBands = (u) => {
    const { ctx, bbox } = u;
    const height = BAND * devicePixelRatio;
    ctx.save();
    for (const [from, until, presence] of known.bands) {
      const left = Math.max(u.valToPos(from, "x", true), bbox.left);
      const right = Math.min(u.valToPos(until, "x", true), bbox.left + bbox.width);
      if (right < left) continue;
      ctx.fillStyle = colour(tones[presence]);
      ctx.fillRect(left, bbox.top + bbox.height - height, Math.max(right - left, devicePixelRatio), height);
    }
    ctx.restore();
  };

  const drawMisses = (u) => {
    const { ctx, bbox } = u;
    ctx.save();
    ctx.fillStyle = colour("--critical");
    known.missed.forEach((missed, n) => {
      if (missed) ctx.fillRect(u.valToPos(known.at[n], "x", true) - devicePixelRatio, bbox.top, 2 * devicePixelRatio, 8 * devicePixelRatio);
    });
    ctx.restore();
  };

  const two = (number) => String(number).padStart(2, "0");
  const make = () => {
    if (chart) chart.destroy();
    const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    chart = new uPlot({
      width: container.clientWidth,
      height: HEIGHT,
      padding: [8, 8, 0, 0],
      legend: { show: false },
      cursor: { y: false, points: { size: 6 } },
      scales: {
        x: { time: true, range: () => [known.begin, known.now] },
        y: { range: (u, least, most) => [-(most || 100) * 0.12, Math.max((most || 0) * 1.15, 50)] },
      },
      axes: [
        { ...axis, space: 60, size: 26, values: (u, ticks) => ticks.map((at) => { const time = new Date(at * 1000); return `${two(time.getHours())}:${two(time.getMinutes())}`; }) },
        { ...axis, size: 62, values: (u, ticks) => ticks.map((ms) => (ms < 0 ? "" : `${ms} ms`)) },
      ],
      series: [{}, { stroke: colour("--accent"), width: 1.5, points: { show: known.at.length < 60, size: 4 }, spanGaps: false }],
      hooks: { draw: [drawBands, drawMisses] },
    }, [known.at, known.ms], container);
  };

  const roundTrips = (sorted) => {
    const [least, most, median] = [0, sorted.length - 1, Math.floor(sorted.length / 2)].map((n) => `${Math.round(sorted[n])} ms`);
    if (sorted.length === 1) return `One round trip, of ${least}`;
    return least === most ? `Round trips of ${least}` : `Round trips of ${least} to ${most}, median ${median}`;
  };

  const showSummary = () => {
    const answered = known.ms.filter((ms) => ms !== null).sort((a, b) => a - b);
    const isLoss = (band, n) => ["disconnected", "unlinked"].includes(band[2]) && n && known.bands[n - 1][2] === "connected";
    const losses = known.bands.filter(isLoss).length;
    const missed = known.missed.reduce((sum, n) => sum + n, 0);
    const trips = answered.length
      ? `${roundTrips(answered)}; ${missed} ${missed === 1 ? "ping" : "pings"} missed.`
      : "The first round trip is measured within half a minute of a connection.";
    summary.textContent = `${trips} ${losses || "No"} ${losses === 1 ? "disconnection" : "disconnections"}.`;
  };

  const load = async () => {
    if (document.hidden && known) return;
    try {
      const answer = await fetch(container.dataset.source, { headers: { "HX-Request": "true" } });
      if (!answer.ok) throw new Error(String(answer.status));
      known = await answer.json();
      // The chart begins with the first record: a session that was added an hour ago would leave a day's chart empty.
      const first = Math.min(known.now - 600, ...known.bands.slice(0, 1).map((band) => band[0]), ...known.at.slice(0, 1));
      known.begin = Math.max(known.since, first);
      // Without any connection in this time there is nothing to draw.
      const card = container.closest(".card");
      card.hidden = !known.at.length && !known.bands.some((band) => band[2] === "connected");
      if (card.hidden) return;
      make();
      showSummary();
    } catch {
      if (!known) summary.textContent = "The chart can't be loaded. Retrying.";
    }
  };

  load();
  setInterval(load, EVERY_MS);
  new ResizeObserver(() => {
    if (chart && chart.width !== container.clientWidth) chart.setSize({ width: container.clientWidth, height: HEIGHT });
  }).observe(container);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => known && make());
})();
