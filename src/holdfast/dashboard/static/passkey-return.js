// Runs in the tab that returned from WhatsApp Web: passes the answer to the company's page in the same browser.
"use strict";

(() => {
  const PATIENCE_MS = 5000;
  const said = document.querySelector("#said");
  const answer = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  history.replaceState(null, "", location.pathname);
  const channel = new BroadcastChannel("holdfast-passkey");
  const timer = setTimeout(() => {
    said.textContent = "No page of this company is open in this browser. Open it and start again.";
  }, PATIENCE_MS);
  channel.addEventListener("message", ({ data }) => {
    if (!data.taken || data.company !== answer.company) return;
    clearTimeout(timer);
    said.textContent = "Holdfast has the answer. Continue in the company’s tab; this one can be closed.";
    window.close();
  });
  channel.postMessage(answer);
})();
