// Runs in the tab that returned from WhatsApp Web: passes the answer to the company's page in the same browser.
"use strict";

(() => {
  const TIMEOUT_MS = 5000;
  const status = document.querySelector("#status");
  const answer = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  history.replaceState(null, "", location.pathname);
  const channel = new BroadcastChannel("holdfast-passkey");
  const timer = setTimeout(() => {
    status.textContent = "No page of this company is open in this browser. Open it and start again.";
  }, TIMEOUT_MS);
  channel.addEventListener("message", ({ data }) => {
    if (!data.received || data.company !== answer.company) return;
    clearTimeout(timer);
    status.textContent = "Holdfast has the answer. Continue in the company’s tab; this one can be closed.";
    window.close();
  });
  channel.postMessage(answer);
})();
