// Lets the owner of a WhatsApp account sign one challenge, and returns the answer to the Holdfast that asked for it.
//
// Holdfast opens web.whatsapp.com with the challenge in the fragment of the address, after "#holdfast=". When the owner
// presses the button, and only then, this script calls the browser's passkey dialog. It then returns to Holdfast with the
// answer in the fragment. It has no access to the passkey, stores nothing, and sends nothing to any other place. Without
// such an address it does nothing.
"use strict";

(() => {
  const MARK = "#holdfast=";
  const LONGEST = 20000;

  const readRequest = () => {
    if (window.top !== window || !location.hash.startsWith(MARK) || location.hash.length > LONGEST) return null;
    try {
      const { options, back, company } = JSON.parse(decodeURIComponent(location.hash.slice(MARK.length)));
      const target = new URL(back);
      const isUsable = ["https:", "http:"].includes(target.protocol) && typeof options.challenge === "string";
      return isUsable ? { options, target, company: String(company).slice(0, 80) } : null;
    } catch {
      return null;
    }
  };

  const request = readRequest();
  if (!request) return;
  // WhatsApp's own scripts need not see the challenge, and a reload must not ask again.
  history.replaceState(null, "", location.pathname + location.search);

  const goBack = (answer) => {
    request.target.hash = new URLSearchParams(answer).toString();
    location.replace(request.target.href);
  };

  const sign = async () => {
    try {
      const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(request.options);
      const credential = await navigator.credentials.get({ publicKey });
      goBack({ company: request.company, assertion: JSON.stringify(credential.toJSON()) });
    } catch (error) {
      goBack({ company: request.company, error: error.name });
    }
  };

  const make = (tag, text, style) => {
    const element = document.createElement(tag);
    element.textContent = text;
    element.style.cssText = style;
    return element;
  };

  const show = () => {
    const host = document.createElement("div");
    host.id = "holdfast-passkey";
    host.style.cssText = "position:fixed;inset:0;z-index:2147483647;background:rgba(0,0,0,.55);display:grid;place-items:center";
    const box = make("div", "", "font:16px/1.5 system-ui,sans-serif;background:#fff;color:#1b2430;max-width:30rem;margin:1rem;padding:1.5rem;border-radius:12px");
    box.setAttribute("role", "dialog");
    box.setAttribute("aria-label", "Holdfast asks for a passkey");
    const button = "font:inherit;padding:.6rem 1rem;border-radius:8px;border:1px solid #1b6e53;cursor:pointer;margin:0 .5rem 0 0;";
    const go = make("button", "Sign with passkey", `${button}background:#1b6e53;color:#fff`);
    const no = make("button", "Don’t link", `${button}background:#fff;color:#1b2430`);
    go.addEventListener("click", (event) => {
      if (!event.isTrusted) return;
      go.disabled = true;
      sign();
    });
    no.addEventListener("click", (event) => {
      if (event.isTrusted) goBack({ company: request.company, error: "declined" });
    });
    const buttons = make("p", "", "margin:1rem 0 0");
    buttons.append(go, no);
    box.append(
      make("h1", "Link this WhatsApp account to Holdfast?", "font-size:1.25rem;margin:0 0 .75rem"),
      make("p", `${request.target.origin} asks you to sign with your passkey, to link a device for “${request.company}”.`, "margin:0 0 .75rem;overflow-wrap:anywhere"),
      make("p", "Whoever runs that server can then read and send this account’s messages. Continue only if you are linking a device there yourself, right now.", "margin:0"),
      buttons,
    );
    // In a closed shadow root the scripts of the page can neither read the dialog nor press its buttons.
    host.attachShadow({ mode: "closed" }).append(box);
    document.documentElement.append(host);
    go.focus();
  };

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", show, { once: true });
  else show();
})();
