// A day of one session: round trips as a line, and below them when the connection was there.
"use strict";

(() => {
  const holder = document.getElementById("chart");
  const said = document.getElementById("chart-said");
  if (!holder) return;
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
      width: holder.clientWidth,
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
    }, [known.at, known.ms], holder);
  };

  const roundTrips = (sorted) => {
    const [least, most, median] = [0, sorted.length - 1, Math.floor(sorted.length / 2)].map((n) => `${Math.round(sorted[n])} ms`);
    if (sorted.length === 1) return `One round trip, of ${least}`;
    return least === most ? `Round trips of ${least}` : `Round trips of ${least} to ${most}, median ${median}`;
  };

  const tell = () => {
    const answered = known.ms.filter((ms) => ms !== null).sort((a, b) => a - b);
    const isLoss = (band, n) => ["disconnected", "unlinked"].includes(band[2]) && n && known.bands[n - 1][2] === "connected";
    const away = known.bands.filter(isLoss).length;
    const missed = known.missed.reduce((sum, n) => sum + n, 0);
    const trips = answered.length
      ? `${roundTrips(answered)}; ${missed} ${missed === 1 ? "ping" : "pings"} missed.`
      : "The first round trip is measured within half a minute of a connection.";
    said.textContent = `${trips} ${away || "No"} ${away === 1 ? "disconnection" : "disconnections"}.`;
  };

  const load = async () => {
    if (document.hidden && known) return;
    try {
      const answer = await fetch(holder.dataset.source, { headers: { "HX-Request": "true" } });
      if (!answer.ok) throw new Error(String(answer.status));
      known = await answer.json();
      // A session that is watched for an hour gets an hour's chart: a day's would be empty.
      const first = Math.min(known.now - 600, ...known.bands.slice(0, 1).map((band) => band[0]), ...known.at.slice(0, 1));
      known.begin = Math.max(known.since, first);
      // A company that was never connected has nothing to draw.
      const card = holder.closest(".card");
      card.hidden = !known.at.length && !known.bands.some((band) => band[2] === "connected");
      if (card.hidden) return;
      make();
      tell();
    } catch {
      if (!known) said.textContent = "The chart can't be loaded. Retrying.";
    }
  };

  load();
  setInterval(load, EVERY_MS);
  new ResizeObserver(() => {
    if (chart && chart.width !== holder.clientWidth) chart.setSize({ width: holder.clientWidth, height: HEIGHT });
  }).observe(holder);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => known && make());
})();
