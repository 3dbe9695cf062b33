// The message form of a chat: a file is uploaded when it is chosen, Enter sends, and the form is cleared after sending.
"use strict";

(() => {
  const form = document.querySelector("#answer");
  if (!form) return;
  const field = (name) => form.elements.namedItem(name);
  const text = field("text");
  const attached = form.querySelector(".attached");
  const chosen = form.querySelector("#answer-file");
  const send = form.querySelector("button.main");

  const detach = () => {
    field("media").value = field("mimetype").value = chosen.value = "";
    attached.hidden = true;
    text.required = true;
  };
  const showError = (message) => {
    const notice = document.createElement("p");
    notice.className = "notice critical";
    notice.textContent = message;
    document.querySelector("#answered").replaceChildren(notice);
  };

  const upload = async (file) => {
    send.disabled = true;
    attached.hidden = false;
    attached.querySelector(".name").textContent = `Uploading ${file.name} …`;
    try {
      const answer = await fetch(form.dataset.upload, {
        method: "POST",
        body: file,
        headers: {
          "Content-Type": file.type || "application/octet-stream",
          "X-Filename": encodeURIComponent(file.name),
          "X-Form-Token": field("token").value,
          "HX-Request": "true"
        }
      });
      if (!answer.ok) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        throw new Error(page.body.textContent.trim());
      }
      const stored = await answer.json();
      field("media").value = stored.id;
      field("mimetype").value = stored.mimetype;
      attached.querySelector(".name").textContent = file.name;
      text.required = false;
      document.querySelector("#answered").replaceChildren();
    } catch (error) {
      detach();
      showError(error instanceof TypeError ? "Holdfast can't be reached, so the file was not uploaded." : error.message);
    } finally {
      send.disabled = false;
    }
  };

  chosen.addEventListener("change", () => {
    if (chosen.files.length) upload(chosen.files[0]);
  });
  form.querySelector("[data-detach]").addEventListener("click", detach);
  text.required = true;
  text.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit(send);
  });
  document.addEventListener("htmx:afterRequest", (event) => {
    if (event.target !== form || !event.detail.successful) return;
    text.value = "";
    detach();
    text.focus();
  });
})();
