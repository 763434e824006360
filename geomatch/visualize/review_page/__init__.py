"""The page on which transferred annotations are corrected: `page` makes it, `page.js` is the editor, `save.js` writes
COCO and labelme."""
