// The tab that WhatsApp Web sent back: hands the answer to the company's page in this browser.
"use strict";

(() => {
  const PATIENCE_MS = 5000;
  const said = document.querySelector("#said");
  const answer = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  history.replaceState(null, "", location.pathname);
  const channel = new BroadcastChannel("holdfast-passkey");
  const timer = setTimeout(() => {
    said.textContent = "No page of this company is open here. Open it in this browser and begin again.";
  }, PATIENCE_MS);
  channel.addEventListener("message", ({ data }) => {
    if (!data.taken || data.company !== answer.company) return;
    clearTimeout(timer);
    said.textContent = "Holdfast has the answer. Go on in the tab of the company; this one can be closed.";
    window.close();
  });
  channel.postMessage(answer);
})();
