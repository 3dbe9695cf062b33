// Keeps pages current in the browser: running times, order and filter of rows, dialogs, and the notice of a lost connection.
"use strict";

(() => {
  const $ = (selector, within = document) => within.querySelector(selector);
  const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];

  // Times. The server renders them as <time>; the browser updates them every second, in its own time zone.

  const formatDuration = (seconds) => {
    if (seconds < 60) return `${Math.max(Math.floor(seconds), 0)} s`;
    const minutes = Math.floor(seconds / 60);
    if (minutes < 60) return `${minutes} min`;
    const hours = Math.floor(minutes / 60);
    if (hours < 24) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
    return hours % 24 ? `${Math.floor(hours / 24)} d ${hours % 24} h` : `${hours / 24} d`;
  };
  const setText = (element, text) => {
    if (element.textContent !== text) element.textContent = text;
  };
  const clock = (at) => at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
  // With spaces that don't break, so that a narrow column shows the date on one line and the clock on the next.
  const day = (at, now) =>
    at.toLocaleDateString([], { month: "short", day: "numeric", year: at.getFullYear() === now.getFullYear() ? undefined : "numeric" })
      .replaceAll(" ", "\u00a0");

  const showTimes = (within = document) => {
    const now = new Date();
    for (const element of $$("time[datetime]", within)) {
      const at = new Date(element.dateTime);
      if ("age" in element.dataset) setText(element, formatDuration((now - at) / 1000));
      if ("clock" in element.dataset) setText(element, at.toDateString() === now.toDateString() ? clock(at) : `${day(at, now)}, ${clock(at)}`);
      if ("minute" in element.dataset) setText(element, at.toDateString() === now.toDateString() ? clock(at).slice(0, 5) : `${day(at, now)}, ${clock(at).slice(0, 5)}`);
      if ("short" in element.dataset) setText(element, at.toDateString() === now.toDateString() ? clock(at).slice(0, 5) : day(at, now));
      if ("countdown" in element.dataset) setText(element, at - now < 1000 ? "a moment" : formatDuration((at - now) / 1000));
      if (element.title && !element.dataset.local) {
        element.title = at.toLocaleString();
        element.dataset.local = "yes";
      }
    }
  };
  setInterval(() => showTimes(), 1000);

  // The list of companies: order, filter, search.

  const filter = { tone: new URLSearchParams(location.search).get("tone") || "" };

  const arrange = () => {
    const body = $("#fleet-rows");
    if (!body) return;
    const known = new Map();
    for (const row of [...body.rows]) {
      if (known.has(row.id)) known.get(row.id).remove();
      known.set(row.id, row);
    }
    const wanted = [...known.values()].sort((a, b) =>
      a.dataset.rank - b.dataset.rank || (a.dataset.company < b.dataset.company ? -1 : 1));
    const focused = document.activeElement;
    wanted.forEach((row, n) => {
      if (body.rows[n] !== row) body.insertBefore(row, body.rows[n] || null);
    });
    if (focused && focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
    const words = $("#search").value.trim().toLowerCase();
    const digits = words.replace(/[\s+()-]/g, "");
    const isFound = (row) => {
      const text = row.dataset.words.toLowerCase();
      return text.includes(words) || (/^\d+$/.test(digits) && text.includes(digits));
    };
    let shown = 0;
    for (const row of wanted) {
      const fits = (!filter.tone || row.dataset.tone === filter.tone) && isFound(row);
      row.hidden = !fits;
      shown += fits;
    }
    for (const button of $$("#tools [data-filter]")) button.setAttribute("aria-pressed", button.dataset.filter === filter.tone);
    $("#no-companies").hidden = wanted.length > 0;
    $("#fleet").hidden = $("#tools").hidden = wanted.length === 0;
    $("#none").hidden = shown > 0 || wanted.length === 0;
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-filter]");
    if (!button) return;
    filter.tone = button.dataset.filter;
    if (button.closest("#none")) $("#search").value = "";
    history.replaceState(null, "", filter.tone ? `?tone=${filter.tone}` : location.pathname);
    arrange();
  });
  document.addEventListener("input", (event) => {
    if (event.target.id === "search") arrange();
  });
  document.addEventListener("keydown", (event) => {
    const search = $("#search, #words, #find-route");
    if (event.key !== "/" || !search || event.target.matches("input, textarea, select")) return;
    event.preventDefault();
    search.focus();
  });

  // The API reference: show only routes and schemas that contain all words of the search.

  document.addEventListener("input", (event) => {
    if (event.target.id !== "find-route") return;
    const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const article of $$(".reference article")) {
      const text = article.textContent.toLowerCase();
      article.hidden = !words.every((word) => text.includes(word));
      shown += !article.hidden;
      const entry = $(`.index a[href="#${CSS.escape(article.id)}"]`);
      if (entry) entry.closest("li").hidden = article.hidden;
    }
    $("#no-route").hidden = shown > 0;
  });

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const source = $(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(source.value ?? source.textContent);
    } catch {
      if (source.select) source.select();
      else getSelection().selectAllChildren(source);
      document.execCommand("copy"); // the clipboard API needs https
    }
    setText(button, "Copied");
  });

  // Dialogs.

  document.addEventListener("click", (event) => {
    const opener = event.target.closest("[data-dialog]");
    if (opener) $(`#${opener.dataset.dialog}`).showModal();
    if (event.target.closest("[data-close]") || event.target.tagName === "DIALOG") event.target.closest("dialog").close();
  });
  document.addEventListener("htmx:beforeRequest", (event) => {
    const dialog = event.target.closest("dialog");
    if (dialog) dialog.close();
  });

  // The connection. It counts as lost when the event stream has sent nothing, not even its heartbeat, for SILENCE_MS.

  const SILENCE_MS = 25000;
  let lastEventAt = Date.now();
  let hasStream = false;
  const markAlive = () => {
    lastEventAt = Date.now();
    $("#lost").hidden = true;
  };
  const markLost = () => {
    if (!hasStream || !$("#lost").hidden) return;
    $("#lost-since").dateTime = new Date(lastEventAt).toISOString();
    showTimes();
    $("#lost").hidden = false;
  };
  const showNotSent = (target) => {
    const notice = document.createElement("p");
    notice.className = "notice critical";
    notice.textContent = "Holdfast can't be reached, so this was not done. Try again when the connection is back.";
    target.replaceChildren(notice);
  };
  document.addEventListener("htmx:sseOpen", () => {
    hasStream = true;
    markAlive();
  });
  document.addEventListener("htmx:sseError", () => {
    hasStream = true;
    markLost();
  });
  document.addEventListener("htmx:sseBeforeMessage", markAlive);
  const failed = ({ target, requestConfig }) => {
    hasStream = true;
    markLost();
    if (requestConfig.verb !== "get" && target) showNotSent(target);
  };
  // While Holdfast is down, a proxy in front of it responds with an error page of its own. Responses of Holdfast itself
  // have a Content-Security-Policy.
  const isFromProxy = (xhr) => xhr.status >= 502 && xhr.status <= 504 && !xhr.getResponseHeader("Content-Security-Policy");
  document.addEventListener("htmx:sendError", (event) => failed(event.detail));
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (!isFromProxy(event.detail.xhr)) return;
    event.detail.shouldSwap = false;
    failed(event.detail);
  });
  document.addEventListener("htmx:afterOnLoad", (event) => {
    if (!isFromProxy(event.detail.xhr)) markAlive();
  });
  setInterval(() => {
    if (Date.now() - lastEventAt > SILENCE_MS) markLost();
  }, 1000);

  // A picture that can't be fetched is replaced by its name, inside the link that opens the error. A profile picture has no
  // name: the initials under it remain visible.
  const pictures = ".picture img, .avatar img";
  const isBroken = (image) => image.matches?.(pictures) && image.complete && !image.naturalWidth;
  const showName = (image) => image.replaceWith(image.alt);
  document.addEventListener("error", ({ target }) => isBroken(target) && showName(target), true);
  [...document.querySelectorAll(pictures)].filter(isBroken).forEach(showName);

  const update = () => {
    arrange();
    showTimes();
  };
  let scheduled = 0;
  const scheduleUpdate = () => {
    cancelAnimationFrame(scheduled);
    scheduled = requestAnimationFrame(update);
  };
  for (const name of ["htmx:sseMessage", "htmx:afterSettle"]) document.addEventListener(name, scheduleUpdate);
  // Before the content is painted: times of the server are wider, and they would appear for a moment.
  document.addEventListener("htmx:afterSwap", ({ target }) => target instanceof Element && showTimes(target));
  update();
  const open = $("dialog[data-open]");
  if (open) open.showModal();
})();
