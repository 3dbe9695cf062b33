// Opens WhatsApp Web with the challenge, so that the owner can sign it with a passkey, and receives the answer from the tab
// that returns to this dashboard.
"use strict";

(() => {
  const $ = (selector) => document.querySelector(selector);
  const TIMEOUT_MS = 15000;
  const MESSAGES = {
    declined: ["passkey-declined", "You chose not to link. Press the button again if you did not mean to."],
    NotAllowedError: [
      "passkey-not-here",
      "The browser gave no signature: its dialog was closed, or this computer has no passkey of this account. Try again and choose the phone in the browser’s dialog; it shows a QR code of its own.",
    ],
    SecurityError: ["passkey-wrong-site", "The browser refused, because this passkey works on https://web.whatsapp.com only. Press the button again."],
  };

  const showError = (code, message) => {
    const notice = $("#passkey-error");
    if (!notice) return;
    notice.dataset.code = code;
    notice.textContent = message;
    notice.hidden = false;
  };

  let timer = 0;
  document.addEventListener("click", (event) => {
    const button = event.target.closest("#passkey-sign");
    if (!button) return;
    const request = {
      options: JSON.parse(button.dataset.options),
      company: button.dataset.company,
      back: `${location.origin}${button.dataset.return}`,
    };
    const target = `https://web.whatsapp.com/#holdfast=${encodeURIComponent(JSON.stringify(request))}`;
    window.open(target, "_blank", "noopener");
    clearTimeout(timer);
    timer = setTimeout(() => {
      showError(
        "extension-missing",
        "No answer has come back yet. If WhatsApp Web shows no dialog of Holdfast, the extension is missing in this browser: install it, or use the snippet below.",
      );
    }, TIMEOUT_MS);
  });

  const channel = new BroadcastChannel("holdfast-passkey");
  channel.addEventListener("message", ({ data }) => {
    const button = $("#passkey-sign");
    if (!button || data.company !== button.dataset.company || data.received) return;
    clearTimeout(timer);
    channel.postMessage({ company: data.company, received: true });
    if (data.error) {
      showError(...(MESSAGES[data.error] || ["passkey-failed", `The browser failed to sign (${data.error}). Try again.`]));
      return;
    }
    $("#passkey-answer").value = data.assertion;
    $("#passkey-form").requestSubmit();
  });
})();
