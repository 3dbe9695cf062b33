// Opens WhatsApp Web with the challenge, so that the owner can sign it with a passkey, and receives the answer from the tab
// that returns to this dashboard.
"use strict";

(() => {
  const $ = (selector) => document.querySelector(selector);
  const SILENCE_MS = 15000;
  const WORDS = {
    declined: ["passkey-declined", "You chose not to link. Press the button again if you did not mean to."],
    NotAllowedError: [
      "passkey-not-here",
      "The browser gave no signature: its dialog was closed, or this computer has no passkey of this account. Try again and choose the phone in the browser’s dialog; it shows a QR code of its own.",
    ],
    SecurityError: ["passkey-wrong-site", "The browser refused, because this passkey works on https://web.whatsapp.com only. Press the button again."],
  };

  const say = (code, words) => {
    const place = $("#passkey-said");
    if (!place) return;
    place.dataset.code = code;
    place.textContent = words;
    place.hidden = false;
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
      say(
        "extension-missing",
        "No answer has come back yet. If WhatsApp Web shows no dialog of Holdfast, the extension is missing in this browser: install it, or use the snippet below.",
      );
    }, SILENCE_MS);
  });

  const channel = new BroadcastChannel("holdfast-passkey");
  channel.addEventListener("message", ({ data }) => {
    const button = $("#passkey-sign");
    if (!button || data.company !== button.dataset.company || data.taken) return;
    clearTimeout(timer);
    channel.postMessage({ company: data.company, taken: true });
    if (data.error) {
      say(...(WORDS[data.error] || ["passkey-failed", `The browser failed to sign (${data.error}). Try again.`]));
      return;
    }
    $("#passkey-answer").value = data.assertion;
    $("#passkey-form").requestSubmit();
  });
})();
