// What Gradio's own markup lacks for screen readers (seen with 6.31): labels on boxes that have no role, and an upload
// button inside a button, whose name is still a translation key.
function mend() {
  for (const empty of document.querySelectorAll('div.empty[aria-label]:not([role])')) empty.setAttribute('role', 'img');
  for (const outer of document.querySelectorAll('button:not([role]):has(button)')) {
    outer.setAttribute('role', 'group');
    outer.setAttribute('aria-label', 'Upload');
    outer.title = 'Upload';
    outer.tabIndex = -1;
  }
}
new MutationObserver(mend).observe(document.documentElement, {childList: true, subtree: true});
