// What pages do by themselves: times that grow, rows in order, dialogs, and a word when the connection is lost.
"use strict";

(() => {
  const $ = (selector, within = document) => within.querySelector(selector);
  const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];

  // Times.

  const lasting = (seconds) => {
    if (seconds < 60) return `${Math.max(Math.floor(seconds), 0)} s`;
    const minutes = Math.floor(seconds / 60);
    if (minutes < 60) return `${minutes} min`;
    const hours = Math.floor(minutes / 60);
    if (hours < 24) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
    return hours % 24 ? `${Math.floor(hours / 24)} d ${hours % 24} h` : `${hours / 24} d`;
  };
  const put = (element, text) => {
    if (element.textContent !== text) element.textContent = text;
  };
  const clock = (at) => at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
  const day = (at, now) =>
    at.toLocaleDateString([], { month: "short", day: "numeric", year: at.getFullYear() === now.getFullYear() ? undefined : "numeric" });

  const showTimes = () => {
    const now = new Date();
    for (const element of $$("time[datetime]")) {
      const at = new Date(element.dateTime);
      if ("age" in element.dataset) put(element, lasting((now - at) / 1000));
      if ("clock" in element.dataset) put(element, at.toDateString() === now.toDateString() ? clock(at) : `${day(at, now)}, ${clock(at)}`);
      if ("minute" in element.dataset) put(element, at.toDateString() === now.toDateString() ? clock(at).slice(0, 5) : `${day(at, now)}, ${clock(at).slice(0, 5)}`);
      if ("short" in element.dataset) put(element, at.toDateString() === now.toDateString() ? clock(at).slice(0, 5) : day(at, now));
      if ("countdown" in element.dataset) put(element, at - now < 1000 ? "a moment" : lasting((at - now) / 1000));
      if (element.title && !element.dataset.local) {
        element.title = at.toLocaleString();
        element.dataset.local = "yes";
      }
    }
  };
  setInterval(showTimes, 1000);

  // The fleet: order, filter, search.

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

  // The API's page: routes, fields and shapes that hold all the words.

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
      document.execCommand("copy"); // pages on plain http have no clipboard
    }
    put(button, "Copied");
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

  // The connection. A stream that says nothing for longer than its heartbeat is as good as lost.

  const SILENCE_MS = 25000;
  let heardAt = Date.now();
  let streams = false;
  const heard = () => {
    heardAt = Date.now();
    $("#lost").hidden = true;
  };
  const lost = () => {
    if (!streams || !$("#lost").hidden) return;
    $("#lost-since").dateTime = new Date(heardAt).toISOString();
    showTimes();
    $("#lost").hidden = false;
  };
  const sayUnsent = (target) => {
    const said = document.createElement("p");
    said.className = "notice critical";
    said.textContent = "Holdfast can't be reached, so this was not done. Try again when the connection is back.";
    target.replaceChildren(said);
  };
  document.addEventListener("htmx:sseOpen", () => {
    streams = true;
    heard();
  });
  document.addEventListener("htmx:sseError", () => {
    streams = true;
    lost();
  });
  document.addEventListener("htmx:sseBeforeMessage", heard);
  const failed = ({ target, requestConfig }) => {
    streams = true;
    lost();
    if (requestConfig.verb !== "get" && target) sayUnsent(target);
  };
  // While Holdfast is down, a proxy in front of it answers with an error page of its own. Holdfast's answers have a policy.
  const isForeign = (xhr) => xhr.status >= 502 && xhr.status <= 504 && !xhr.getResponseHeader("Content-Security-Policy");
  document.addEventListener("htmx:sendError", (event) => failed(event.detail));
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (!isForeign(event.detail.xhr)) return;
    event.detail.shouldSwap = false;
    failed(event.detail);
  });
  document.addEventListener("htmx:afterOnLoad", (event) => {
    if (!isForeign(event.detail.xhr)) heard();
  });
  setInterval(() => {
    if (Date.now() - heardAt > SILENCE_MS) lost();
  }, 1000);

  // A picture that can't be fetched becomes a link with its name; behind it is the reason. A profile picture has no name:
  // the initials under it remain.
  const pictures = ".picture img, .avatar img";
  const isBroken = (image) => image.matches?.(pictures) && image.complete && !image.naturalWidth;
  const name = (image) => image.replaceWith(image.alt);
  document.addEventListener("error", ({ target }) => isBroken(target) && name(target), true);
  [...document.querySelectorAll(pictures)].filter(isBroken).forEach(name);

  const settle = () => {
    arrange();
    showTimes();
  };
  let planned = 0;
  const soon = () => {
    cancelAnimationFrame(planned);
    planned = requestAnimationFrame(settle);
  };
  for (const name of ["htmx:sseMessage", "htmx:afterSettle"]) document.addEventListener(name, soon);
  settle();
  const open = $("dialog[data-open]");
  if (open) open.showModal();
})();
