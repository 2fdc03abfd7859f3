import { svelte } from '@sveltejs/vite-plugin-svelte'
import { defineConfig } from 'vite'

// `taper serve` on its default address; `npm run dev` shows the page with its data.
const server = 'http://127.0.0.1:8000'

export default defineConfig({
  plugins: [svelte({ configFile: false })],
  build: {
    // The security policy allows no data: addresses.
    assetsInlineLimit: 0,
    target: ['chrome125', 'firefox126', 'safari17.5'],
  },
  server: { proxy: { '/v1': { target: server, changeOrigin: true } } },
})
