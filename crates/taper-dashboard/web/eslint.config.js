import js from '@eslint/js'
import svelte from 'eslint-plugin-svelte'
import { defineConfig } from 'eslint/config'
import globals from 'globals'
import typescript from 'typescript-eslint'

export default defineConfig(
  { ignores: ['src/schema.ts'] },
  js.configs.recommended,
  { files: ['**/*.{ts,svelte}'], extends: [typescript.configs.strictTypeChecked] },
  svelte.configs.recommended,
  {
    languageOptions: {
      globals: globals.browser,
      parserOptions: { projectService: true, extraFileExtensions: ['.svelte'], tsconfigRootDir: import.meta.dirname },
    },
  },
  { files: ['**/*.svelte', '**/*.svelte.ts'], languageOptions: { parserOptions: { parser: typescript.parser } } },
  {
    files: ['**/*.{ts,svelte}'],
    rules: {
      // An index that was just found is known to be there.
      '@typescript-eslint/no-non-null-assertion': 'off',
      // Numbers in texts are what most texts are made for.
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      // `void [a, b]` in an effect says what it depends on.
      '@typescript-eslint/no-meaningless-void-operator': 'off',
      'svelte/no-useless-mustaches': ['error', { ignoreIncludesComment: true }],
      // The page has a router of its own.
      'svelte/no-navigation-without-resolve': 'off',
      // Collections are made anew rather than changed.
      'svelte/prefer-svelte-reactivity': 'off',
    },
  },
  {
    // Here the types of other components are not known, which svelte-check knows.
    files: ['**/*.svelte'],
    rules: {
      '@typescript-eslint/no-unsafe-argument': 'off',
      '@typescript-eslint/no-unsafe-assignment': 'off',
      '@typescript-eslint/no-unsafe-call': 'off',
      '@typescript-eslint/no-unsafe-member-access': 'off',
      '@typescript-eslint/no-unsafe-return': 'off',
      '@typescript-eslint/no-redundant-type-constituents': 'off',
    },
  },
)
